"""The command line, as `python -m stoplist`."""

from stoplist.cli import main

if __name__ == "__main__":
    main(prog_name="stoplist")
