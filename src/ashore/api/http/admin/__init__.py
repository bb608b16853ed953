"""Administration over HTTP: one module for each room, `/admin/v1/ROOM`. Parse, call the room's use case, render."""
