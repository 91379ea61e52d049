/* A shared object that is no retriever. */
int exports_something_else(void);

int exports_something_else(void) {
    return 1;
}
