/* What the daemon prints about itself, out of the tables of its options: --help, the shipped
 * configuration file, kvquantd(8) and kvquantd.conf(5). To standard output.
 */
#ifndef DAEMON_OPS_MANUAL_H
#define DAEMON_OPS_MANUAL_H

void manual_print_help(void);
void manual_print_config(void);
void manual_print_page(void);
void manual_print_config_page(void);

#endif
