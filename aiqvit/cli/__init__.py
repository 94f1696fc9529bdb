"""Commands, one a file; nothing else imports them."""
