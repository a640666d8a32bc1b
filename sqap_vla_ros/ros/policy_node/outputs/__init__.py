"""Commands on the wire: one small file for each kind of controller."""
