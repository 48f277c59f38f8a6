"""What each path of the server reads out of a request and answers."""
