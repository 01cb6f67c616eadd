"""Mined datasets on the Hugging Face Hub."""
