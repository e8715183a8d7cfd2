"""The experiment as data and what works on it, in folders by trade."""
