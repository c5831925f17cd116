"""Adapters: where ports meet the outside world; adapters do not know each other."""
