"""`hf-active-distill elad`: the recipe of that name as a command."""

from .recipe_command import recipe_command


add_parser, run = recipe_command("elad", "explanation-guided active distillation: a student that reasons")
