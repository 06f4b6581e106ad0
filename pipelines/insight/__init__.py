"""What an interest stands for, in the words of the table about items. Begin with `explain`."""
