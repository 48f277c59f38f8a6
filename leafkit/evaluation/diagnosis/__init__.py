"""What a student could inherit from a teacher, measured on the teacher's vectors alone."""
