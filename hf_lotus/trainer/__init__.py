"""`UnlearningTrainer`: the seam between unlearning methods and `transformers.Trainer`."""
