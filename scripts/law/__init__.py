"""The law tables: what a person read in a CSV of statutes, checked against it and written as typed, dated data."""
