"""What a part of another package inherits to be tested as ours are; needs pytest."""
