/* What is kept of a window of 2x2 pixels: a byte, the place of its largest value. */

#ifndef POOL_CODES_H
#define POOL_CODES_H

/* Added where the activation lets the gradient through unchanged. */
enum { SIGN = 128 };

#endif
