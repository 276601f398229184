"""The command line: one thin file per verb that parses, calls the api and prints."""
