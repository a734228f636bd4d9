"""Rounds as versions on the Hub, and the cards and exports that go with them."""
