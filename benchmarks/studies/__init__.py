"""Small trainings on synthetic heads that answer one question each; a file a question."""
