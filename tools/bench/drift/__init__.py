"""`bench drift`: is the promise kept, how soon is a change found, what does it cost, and who does better?"""
