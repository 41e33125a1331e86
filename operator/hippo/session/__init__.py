"""What every driver needs beside the engine: sessions over a store, mail, accounts, results."""
