//! Parses the command line, runs one command, prints one chain of errors.

fn main() {}
