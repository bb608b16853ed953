"""Generated from proto/ashore/v1 by proto/generate.sh. Do not edit."""
