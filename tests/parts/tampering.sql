-- What can be done to a SQLite log by SQL alone, once its triggers are dropped (tampering.py reads this).
-- `--- NAME => PART | PART`: each part must stand in what the verifier says.

--- flip a byte of entry 0 => entry 0 (
UPDATE entry SET body = flip(body, 40) WHERE seq = 1;

--- flip a byte of entry 255 => entry 255 (
UPDATE entry SET body = flip(body, 40) WHERE seq = 256;

--- flip a byte of entry 256 => entry 256 (
UPDATE entry SET body = flip(body, 40) WHERE seq = 257;

--- flip a byte of entry 517 => entry 517 (
UPDATE entry SET body = flip(body, 40) WHERE seq = 518;

--- flip a byte of entry 699 => entry 699 (
UPDATE entry SET body = flip(body, 40) WHERE seq = 700;

--- replace an entry by another true one => entry 300 ( | not the one that was signed
UPDATE entry SET body = (SELECT body FROM entry WHERE seq = 41) WHERE seq = 301;

--- delete an entry row => entry 300, | missing
DELETE FROM entry WHERE seq = 301;

--- empty an entry => entry 300,
UPDATE entry SET body = x'' WHERE seq = 301;

--- swap two entries => entry 299 ( | another order
CREATE TEMP TABLE kept AS SELECT seq AS k, body AS v FROM entry WHERE seq IN (300, 301);
UPDATE entry SET body = (SELECT v FROM kept WHERE k = 301) WHERE seq = 300;
UPDATE entry SET body = (SELECT v FROM kept WHERE k = 300) WHERE seq = 301;

--- swap two runs of leaves => entry 5 ( | not the one that was signed
UPDATE leaf_run SET seq = -1 WHERE idx = 5;
UPDATE leaf_run SET seq = 6 WHERE idx = 256;
UPDATE leaf_run SET seq = 257 WHERE idx = 5;

--- let a run of leaves name entries that are not there => entry 659, | missing
UPDATE leaf_run SET seq = 554 WHERE idx = 512;

--- flip a byte of a leaf hash in a full tile => entry 77, | table leaf_run
UPDATE leaf_run SET hashes = flip(hashes, (77 - 5) * 32 + 3) WHERE idx = 5;

--- flip a byte of a leaf hash at the edge => entry 650, | table leaf_run
UPDATE leaf_run SET hashes = flip(hashes, (650 - 512) * 32 + 3) WHERE idx = 512;

--- delete the first leaf => entry 0, | missing
DELETE FROM leaf_run WHERE idx = 0;

--- delete a run of leaves within a bundle => entry 256, | missing
DELETE FROM leaf_run WHERE idx = 256;

--- cut the first leaf off a run => entry 300, | missing
UPDATE leaf_run SET idx = idx + 1, seq = seq + 1, width = width - 1, hashes = substr(hashes, 33) WHERE idx = 300;

--- cut the last leaf off a run => entry 299, | missing
UPDATE leaf_run SET width = width - 1, hashes = substr(hashes, 1, 43 * 32) WHERE idx = 256;

--- cut the last leaf off the log => entry 699, | missing
UPDATE leaf_run SET width = width - 1, hashes = substr(hashes, 1, 187 * 32) WHERE idx = 512;

--- delete a whole bundle of leaves => entry 256, | missing
DELETE FROM leaf_run WHERE idx BETWEEN 256 AND 511;

--- give a leaf a second row => entry 100, | table leaf_run | two rows
INSERT INTO leaf_run SELECT tenant, 100, 9999, 1, substr(hashes, 1, 32) FROM leaf_run WHERE idx = 5;

--- say that a run is wider than its hashes => entry 5, | table leaf_run | cannot have
UPDATE leaf_run SET width = 252 WHERE idx = 5;

--- let a run reach into the next tile => entry 300, | table leaf_run | cannot have
UPDATE leaf_run SET width = 213, hashes = CAST(hashes || zeroblob(32) AS BLOB) WHERE idx = 300;

--- store text where the hashes of leaves belong => entry 256, | table leaf_run
UPDATE leaf_run SET hashes = 'many' WHERE idx = 256;

--- store text where the width of a run belongs => entry 256, | table leaf_run | cannot have
UPDATE leaf_run SET width = 'many' WHERE idx = 256;

--- store text where the number of a run belongs => entry 256, | table leaf_run | cannot have
UPDATE leaf_run SET seq = 'many' WHERE idx = 256;

--- add a leaf beyond the head => entry 700, | beyond the head
INSERT INTO leaf_run SELECT tenant, 700, 9999, 1, substr(hashes, 1, 32) FROM leaf_run WHERE idx = 5;

--- let the last run reach beyond the head => entry 700, | beyond the head
UPDATE leaf_run SET width = width + 1, hashes = CAST(hashes || zeroblob(32) AS BLOB) WHERE idx = 512;

--- add a leaf before the first => entry -1,
INSERT INTO leaf_run SELECT tenant, -1, 9999, 1, substr(hashes, 1, 32) FROM leaf_run WHERE idx = 5;

--- truncate the beginning: entries and leaves => entry 0, | missing
DELETE FROM entry WHERE seq <= 5;
DELETE FROM leaf_run WHERE idx < 5;

--- truncate the end: entries and leaves => entry 512, | missing
DELETE FROM entry WHERE seq > 512;
DELETE FROM leaf_run WHERE idx >= 512;

--- truncate the end and the head => entry 512, | head row
DELETE FROM leaf_run WHERE idx >= 512;
UPDATE head SET size = 512;

--- flip a byte of a tile's marks => table tile, tile/0/001 | marks
UPDATE tile SET marks = flip(marks, 64) WHERE level = 0 AND number = 1;

--- give marks to a tile of a level that is not there => table tile
INSERT INTO tile SELECT tenant, 3, 0, data, root, marks FROM tile WHERE number = 0 AND level = 0;

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
INSERT INTO tile SELECT tenant, 0, 2, data, root, marks FROM tile WHERE number = 0;

--- add a tile of a level that is not there => table tile | level 3
INSERT INTO tile SELECT tenant, 3, 0, data, root, NULL FROM tile WHERE number = 0;

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
UPDATE entry SET action = 'x' WHERE seq = 4;

--- change an entry's subject column => entry 3 ( | subject
UPDATE entry SET subject = 'sub_x' WHERE seq = 4;

--- change an entry's id column => entry 3 ( | id
UPDATE entry SET id = flip(id, 15) WHERE seq = 4;

--- delete a reference => entry 3 ( | entry_ref
DELETE FROM entry_ref WHERE value = 'cus_3';

--- add a reference => table entry_ref
INSERT INTO entry_ref SELECT tenant, 'cus_x', seq FROM entry WHERE seq = 9;

--- delete an idempotency key => entry 3 ( | idempotency
DELETE FROM idempotency WHERE entry_id = (SELECT id FROM entry WHERE seq = 4);

--- give an idempotency key to another entry => entry 3 ( | idempotency
UPDATE idempotency SET entry_id = (SELECT id FROM entry WHERE seq = 9) WHERE entry_id = (SELECT id FROM entry WHERE seq = 4);
