"""`python -m recode_rl` is the same as `recode-rl`."""

from recode_rl.cli import main

if __name__ == "__main__":
    main()
