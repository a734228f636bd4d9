"""`hf-active-distill llkd`: the recipe of that name as a command."""

from .recipe_command import recipe_command


add_parser, run = recipe_command("llkd", "active distillation of a student that puts texts into classes")
