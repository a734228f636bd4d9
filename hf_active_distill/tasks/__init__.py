"""Tasks: prompts, steps, answers. Text only."""
