"""The verifiable log: pure maths and formats. Standard library and PyNaCl only; no I/O, no clock.

Formats are those of C2SP at commit 5ba5ee8 and the tree of RFC 9162. Read in this order:
encoding, tree, proof, tile, note, checkpoint, cosignature, policy, receipt.
"""
