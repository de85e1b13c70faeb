"""What the pages for people say, held against the program: links, commands, examples, tables."""
