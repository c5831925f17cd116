"""Payments: an intent, its attempts at PSPs, and what is known about each (DESIGN.md, flow Pay)."""
