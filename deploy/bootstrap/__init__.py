"""What brings a fresh checkout to where it runs: standard library only, since nothing is installed yet."""
