"""What others read: the record, the card, its verification, and the Hub."""
