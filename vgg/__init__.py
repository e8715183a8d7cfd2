"""The method of Simonyan & Zisserman (2015), as functions of tensors and arrays."""
