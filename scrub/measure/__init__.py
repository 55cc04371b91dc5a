"""What heads look at, write and read: scores, how far they agree, composition, and the roles that follow."""
