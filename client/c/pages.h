/* What the files behind kvq.h's pages and layers share. */
#ifndef CLIENT_C_PAGES_H
#define CLIENT_C_PAGES_H

#pragma GCC visibility push(hidden)

/* The public number of an enum page_error. */
int kvq_error_of_page(int error);

#pragma GCC visibility pop

#endif
