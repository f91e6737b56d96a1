#include "start64.inc"
