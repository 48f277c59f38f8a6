"""What students of a teacher will be worth, told by probes before any of them is made."""
