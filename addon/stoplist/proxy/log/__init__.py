"""The log: the records that a gate can write, and the allow-list that lets nothing else out."""
