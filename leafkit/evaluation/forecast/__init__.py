"""What probes of a student say of the student: its figures, their growth, and finished runs."""
