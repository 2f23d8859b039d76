"""The audit: is it gone, or only quiet? The pool of reference models, and what is judged by it."""
