-- What can be done to a SQLite log by SQL alone, once its triggers are dropped (tampering.py reads this).
-- `--- NAME => PART | PART`: each part must stand in what the verifier says.

--- flip a byte of entry 0 => entry 0 (
UPDATE entry SET body = flip(body, 40) WHERE seq = (SELECT seq FROM leaf WHERE idx = 0);

--- flip a byte of entry 255 => entry 255 (
UPDATE entry SET body = flip(body, 40) WHERE seq = (SELECT seq FROM leaf WHERE idx = 255);

--- flip a byte of entry 256 => entry 256 (
UPDATE entry SET body = flip(body, 40) WHERE seq = (SELECT seq FROM leaf WHERE idx = 256);

--- flip a byte of entry 517 => entry 517 (
UPDATE entry SET body = flip(body, 40) WHERE seq = (SELECT seq FROM leaf WHERE idx = 517);

--- flip a byte of entry 699 => entry 699 (
UPDATE entry SET body = flip(body, 40) WHERE seq = (SELECT seq FROM leaf WHERE idx = 699);

--- replace an entry by another true one => entry 300 ( | not the one that was signed
UPDATE entry SET body = (SELECT body FROM entry WHERE seq = (SELECT seq FROM leaf WHERE idx = 40)) WHERE seq = (SELECT seq FROM leaf WHERE idx = 300);

--- delete an entry row => entry 300, | missing
DELETE FROM entry WHERE seq = (SELECT seq FROM leaf WHERE idx = 300);

--- empty an entry => entry 300,
UPDATE entry SET body = x'' WHERE seq = (SELECT seq FROM leaf WHERE idx = 300);

--- swap two entries => entry 299 ( | another order
CREATE TEMP TABLE kept AS SELECT seq AS k, body AS v FROM entry WHERE seq IN (300, 301);
UPDATE entry SET body = (SELECT v FROM kept WHERE k = 301) WHERE seq = 300;
UPDATE entry SET body = (SELECT v FROM kept WHERE k = 300) WHERE seq = 301;

--- swap the leaves of two entries => entry 10 ( | another order
UPDATE leaf SET seq = -1 WHERE idx = 10;
UPDATE leaf SET seq = 11 WHERE idx = 20;
UPDATE leaf SET seq = 21 WHERE idx = 10;

--- flip a byte of a leaf hash in a full tile => entry 77, | table leaf
UPDATE leaf SET hash = flip(hash, 3) WHERE idx = 77;

--- flip a byte of a leaf hash at the edge => entry 650, | table leaf
UPDATE leaf SET hash = flip(hash, 3) WHERE idx = 650;

--- delete the first leaf => entry 0 ( | deleted
DELETE FROM leaf WHERE idx = 0;

--- delete a leaf in the middle => entry 400 ( | deleted
DELETE FROM leaf WHERE idx = 400;

--- delete the last leaf => entry 699, | missing
DELETE FROM leaf WHERE idx = 699;

--- delete a whole bundle of leaves => entry 256, | missing
DELETE FROM leaf WHERE idx BETWEEN 256 AND 511;

--- add a leaf beyond the head => entry 700, | beyond the head
INSERT INTO leaf SELECT tenant, 700, 9999, hash FROM leaf WHERE idx = 3;

--- add a leaf before the first => entry -1,
INSERT INTO leaf SELECT tenant, -1, 9999, hash FROM leaf WHERE idx = 3;

--- truncate the beginning: entries and leaves => entry 0 (
DELETE FROM entry WHERE seq <= 10;
DELETE FROM leaf WHERE idx < 10;

--- truncate the end: entries and leaves => entry 690, | missing
DELETE FROM entry WHERE seq > 690;
DELETE FROM leaf WHERE idx >= 690;

--- truncate the end and the head => entry 690, | head row
DELETE FROM leaf WHERE idx >= 690;
UPDATE head SET size = 690;

--- flip a byte of a tile => entry 258, | table tile, tile/0/001
UPDATE tile SET data = flip(data, 64) WHERE level = 0 AND number = 1;

--- cut a tile short => table tile, tile/0/001
UPDATE tile SET data = substr(data, 1, 8160) WHERE level = 0 AND number = 1;

--- flip a byte of a tile's root => roots of level 0 for tile/1/000.p/2
UPDATE tile SET root = flip(root, 0) WHERE level = 0 AND number = 1;

--- delete a tile => table tile, tile/0/000 | missing
DELETE FROM tile WHERE level = 0 AND number = 0;

--- swap two tiles => table tile, tile/0/000
UPDATE tile SET number = -5 WHERE number = 0;
UPDATE tile SET number = 0 WHERE number = 1;
UPDATE tile SET number = 1 WHERE number = -5;

--- add a tile beyond the tree => table tile | level 0
INSERT INTO tile SELECT tenant, 0, 2, data, root FROM tile WHERE number = 0;

--- add a tile of a level that is not there => table tile | level 3
INSERT INTO tile SELECT tenant, 3, 0, data, root FROM tile WHERE number = 0;

--- raise the head's size => entry 700, | missing
UPDATE head SET size = 701;

--- raise the head's size beyond all reason => missing
UPDATE head SET size = 1152921504606846976;

--- lower the head's size => head row
UPDATE head SET size = 600;

--- flip a byte of the head's root => head row
UPDATE head SET root = flip(root, 31);

--- freeze the head => head row
UPDATE head SET frozen = 1;

--- delete the head => head row
DELETE FROM head;

--- store text where the head's size belongs => head row
UPDATE head SET size = 'many';

--- flip a byte of the newest checkpoint's size => checkpoint of size 600
UPDATE checkpoint SET note = flip(note, 17) WHERE size = 700;

--- flip a byte of the newest checkpoint's root => checkpoint
UPDATE checkpoint SET note = flip(note, 30) WHERE size = 700;

--- flip a byte of an older checkpoint's signature => checkpoint history, size 300
UPDATE checkpoint SET note = flip(note, length(note) - 20) WHERE size = 300;

--- move a checkpoint to another size => checkpoint of size 301
UPDATE checkpoint SET size = 301 WHERE size = 300;

--- swap the notes of two checkpoints => checkpoint of size 5
CREATE TEMP TABLE kept AS SELECT size AS k, note AS v FROM checkpoint WHERE size IN (5, 300);
UPDATE checkpoint SET note = (SELECT v FROM kept WHERE k = 300) WHERE size = 5;
UPDATE checkpoint SET note = (SELECT v FROM kept WHERE k = 5) WHERE size = 300;

--- delete the newest checkpoint => smaller than it was | size 300 | size 700
DELETE FROM checkpoint WHERE size = 700;

--- delete an older checkpoint => checkpoint history | no longer kept
DELETE FROM checkpoint WHERE size = 5;

--- delete all checkpoints => smaller than it was | size 700
DELETE FROM checkpoint;

--- rename the origin => tenant row
UPDATE tenant SET origin = 'ledger.test/other';

--- freeze the tenant => tenant row
UPDATE tenant SET state = 'frozen';

--- change an entry's action column => entry 3 ( | action
UPDATE entry SET action = 'x' WHERE seq = (SELECT seq FROM leaf WHERE idx = 3);

--- change an entry's subject column => entry 3 ( | subject
UPDATE entry SET subject = 'sub_x' WHERE seq = (SELECT seq FROM leaf WHERE idx = 3);

--- change an entry's id column => entry 3 ( | id
UPDATE entry SET id = flip(id, 15) WHERE seq = (SELECT seq FROM leaf WHERE idx = 3);

--- delete a reference => entry 3 ( | entry_ref
DELETE FROM entry_ref WHERE value = 'cus_3';

--- add a reference => table entry_ref
INSERT INTO entry_ref SELECT tenant, 'cus_x', seq FROM entry WHERE seq = 9;

--- delete an idempotency key => entry 3 ( | idempotency
DELETE FROM idempotency WHERE entry_id = (SELECT id FROM entry WHERE seq = 4);

--- give an idempotency key to another entry => entry 3 ( | idempotency
UPDATE idempotency SET entry_id = (SELECT id FROM entry WHERE seq = 9) WHERE entry_id = (SELECT id FROM entry WHERE seq = 4);
