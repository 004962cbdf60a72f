"""`python -m neurosim`: the command line."""

from neurosim.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="neurosim")
