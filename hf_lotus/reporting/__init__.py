"""Results as pictures, tables and reports."""
