"""What heads attend to, measured on text and on repeated random tokens, and the roles that follow from it."""
