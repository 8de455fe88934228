"""Tell people and programs what happens to a sync: from the journal to a signed HTTP call.

notices.py   what an entry of the journal is worth telling, and to whom. Pure
bodies.py    how it is told: JSON, chat, e-mail; and signed. Pure
delivery.py  one hook: what it waits for, its tries, how far it has come
service.py   reads the journal once for all hooks, keeps each one's place in Kafka
"""
