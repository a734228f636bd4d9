"""The dispatcher, the budget, the forecast and the journal: useful without any trainer."""
