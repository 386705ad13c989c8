"""What chains of units and dense blocks are both made of, and how modules are read as that."""
