"""Embed folders, tables, archives and videos by a running gateway, into files or a database, and search them."""
