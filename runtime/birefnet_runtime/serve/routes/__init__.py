"""One module for each dialect in which the service is asked."""
