"""Exports: how an application's image is run by others, as their documents. Values and pure functions."""
