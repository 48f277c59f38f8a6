"""What people read after a run: the HTML report, the model card and the summary on the console."""
