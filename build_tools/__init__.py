"""What setup.py and the Makefile need beyond setuptools. Never installed."""
