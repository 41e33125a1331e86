"""An open plan, shared by the drivers: its session over the store, inbox, charges and stalls."""
