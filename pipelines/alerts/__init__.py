"""What somebody should be told of, and telling them once. Begin with `troubles`."""
